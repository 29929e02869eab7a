"""What do we record, gate and print of it?"""
