"""The commands of `chargen export`, one file each."""
