"""What can be trained: each method with its options."""
