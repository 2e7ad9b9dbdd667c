"""fastconv under the names of other projects, for code that was written for them: one module per project."""
