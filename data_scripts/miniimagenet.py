"""The same as `tinymaml prepare miniimagenet`."""

import sys

from tinymaml.__main__ import main


if __name__ == "__main__":
    sys.argv[1:1] = ["prepare", "miniimagenet"]
    main()
