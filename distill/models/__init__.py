"""Networks: tensors in, tensors out; no files, no logging, no device moves."""
