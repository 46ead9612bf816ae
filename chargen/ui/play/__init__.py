"""The live prompt of `chargen play`."""
