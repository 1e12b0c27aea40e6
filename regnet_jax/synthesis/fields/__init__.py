"""The artificial displacement fields, family by family."""
