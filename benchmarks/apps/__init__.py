"""The applications under test: they have the same endpoints, and differ in the response class."""
