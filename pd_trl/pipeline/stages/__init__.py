"""The stages of the pipeline, each a function of its arguments that leaves a folder with a manifest."""
