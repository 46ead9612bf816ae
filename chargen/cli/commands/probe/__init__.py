"""The commands of `chargen probe`, one file each."""
