"""What bytes are: tensors, factors, instructions and errors as messages carry them."""
