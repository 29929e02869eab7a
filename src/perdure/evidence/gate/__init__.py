"""May a candidate replace its parent, by a plan that was fixed beforehand?"""
