"""What all methods of a run share: a backbone's files, the forms they come in, and the built-in descriptions."""
