"""What people look at: Grafana's dashboards as JSON files, the code that writes them (`boards`), and a way to look at
them without Grafana (`look`). Imports none of our other packages; what each panel means is in docs/DASHBOARDS.md.
"""
