"""DPO on selected pairs, and DFPO."""
