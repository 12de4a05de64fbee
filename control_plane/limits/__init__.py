"""What a customer may spend: minute, day, month and concurrency, decided together in one Lua script on Redis's clock."""
