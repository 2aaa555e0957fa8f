"""The applications under test: the same endpoints, with the response class as the difference."""
