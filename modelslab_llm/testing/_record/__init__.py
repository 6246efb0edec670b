"""Record real exchanges to files and replay them, without the secrets in them."""
