"""What holds the house together: directions, sizes, and that the docs say what is true."""
