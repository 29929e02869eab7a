"""What was done to the releases of a workspace, and is all as it was written?"""
