"""One module per policy family: its network, example inputs, tokenizer and manifest facts, as `publish.Family` lists them."""
