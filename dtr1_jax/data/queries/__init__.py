"""What can be asked of an annotated picture or video: queries with their answers, shared by all generated data."""
