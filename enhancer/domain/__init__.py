"""What the service talks about: values, no input or output."""
