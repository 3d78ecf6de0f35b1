"""Files of rows, each format read as Arrow batches with the position of every row."""
