"use strict";
const pageData = JSON.parse(document.getElementById("page-data").textContent);
