"""Who may read what dashboards show."""
