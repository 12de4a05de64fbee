"""Who calls: the text of a key, its record in three stores, and how every process hears of a change."""
