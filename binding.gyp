# A bridge for tools that look for node-gyp's file (npm, prebuildify): CMakeLists.txt is the build.
{
  "targets": [
    {
      "target_name": "coldstart",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt", "package.json"],
          "outputs": ["build/Release/coldstart.node"],
          "action": ["node", "scripts/build.mjs"]
        }
      ]
    }
  ]
}
