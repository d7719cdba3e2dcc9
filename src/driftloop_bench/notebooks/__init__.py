"""What the notebooks show: tables and figures for people who learn from them, and the platform they run on.

A notebook holds text and calls; everything that computes is here or in the room that it is about.
"""
