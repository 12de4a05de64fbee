"""What is measured, on real servers of their own. Tables and JSON; nothing here is asserted in a test."""
