"""Money: tiers, prices, and later invoices and revenue. Plain functions and tables; no HTTP, no Redis, no control plane."""
