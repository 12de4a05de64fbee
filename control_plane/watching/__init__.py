"""What the worker looks at so that Prometheus can tell an operator: stores, letters that are dead, customers, the certificate."""
