"""Image data from their usual archives to one .npz; nothing is run or extracted."""
