"""The dashboards: as files, as they are read by Grafana's user, and as they are answered by real servers."""
