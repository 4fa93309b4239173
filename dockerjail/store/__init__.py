"""
Bans, failures and cursors that outlive the process, in SQLite.

Only `sqlite` and `migrate` import the database library.
"""
