"""The same as `tinymaml prepare images`."""

import sys

from tinymaml.__main__ import main


if __name__ == "__main__":
    sys.argv[1:1] = ["prepare", "images"]
    main()
