"""The command `chargen classify`: its options, what it trains, what it classifies, and what it prints."""
