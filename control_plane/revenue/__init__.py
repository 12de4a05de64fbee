"""What the business earns: the open months rated now, the views of docs/REVENUE.md read as values, and the report.

open_month  what is not invoiced yet, by the rating itself     costs    what running it costs, from settings to SQL
figures     the views as values                                report   terminal, CSV and HTML
truths      the invariants, run by the worker                  commands `vlaapi revenue`, `vlaapi billing`
"""
