"""Measurements. Nothing is asserted: machines differ; ratios of one run are what counts."""
