"""peftlib: the library behind the reproducible study of parameter-efficient fine-tuning."""
