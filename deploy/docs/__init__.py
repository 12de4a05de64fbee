"""The documentation as a site: `docs/*.md` and a pricing page, made by MkDocs with its Material theme (`make docs`)."""
