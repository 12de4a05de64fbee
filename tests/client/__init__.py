"""The SDK. Nothing here but `test_against_the_service` and the fixture it uses knows the rest of the repository."""
