"""The commands about rule sets: ``bioconvert rules list|show|check|schema|init``."""
