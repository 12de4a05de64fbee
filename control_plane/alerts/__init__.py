"""Telling customers that a limit is nearly used up: once per threshold and period, by e-mail and webhook."""
