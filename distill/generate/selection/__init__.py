"""One of several drafts: a critic that tells drafts from recordings, and the choice by it."""
