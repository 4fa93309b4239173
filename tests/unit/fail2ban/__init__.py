"""Promises of the reader of a user's own fail2ban directory."""
