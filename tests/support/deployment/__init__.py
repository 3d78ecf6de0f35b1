"""What is wrong with the files under ``deploy/``: each check returns its complaints in words.

A check looks at a tree, so that a test can break a copy of it and see the check complain.
"""
