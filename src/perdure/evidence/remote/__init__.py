"""How do scores of a site that keeps its data come to another?"""
