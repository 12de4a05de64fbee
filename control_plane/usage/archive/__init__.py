"""Old days of the log: exported to object storage as Parquet, proven there, and only then dropped from the database.

day        one partition: frozen, described, dropped       parquet   rows to a file and a file back to counts
manifest   what a month's files must be, written last      retention which months are due, and the steps in order
audit      a month derived again from its files            commands  `vlaapi usage audit`, `archive`
"""
