"""The checks of the exercises, one file a chapter; each has its exercises in EXERCISES."""
