"""Line charts of measurements: as SVG or PNG files, and as characters on a terminal."""
