package main

// What tests outside of the package need.
var RealMain = realMain

const FaultsShown = faultsShown

// WriteWhole writes a file whole or not at all.
var WriteWhole = writeWhole
