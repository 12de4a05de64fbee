"""Sign-ups: somebody asks for access, the operator is told and decides; approval makes the customer and welcomes them."""
