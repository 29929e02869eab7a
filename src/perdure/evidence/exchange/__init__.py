"""How does a release go to, and come from, other people's formats?"""
