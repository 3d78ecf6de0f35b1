"""The REST service: one file per noun, over ``producers.submission`` and the stores."""
